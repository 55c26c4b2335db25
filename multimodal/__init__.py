"""Images with words: objectives, models and data over more than one modality."""

from multimodal import scenes
from multimodal.scenes import COLOURS, SHAPES, TEXTURES

__all__ = ["COLOURS", "SHAPES", "TEXTURES", "scenes"]
