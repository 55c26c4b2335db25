"""CLIP of two transformers written plainly in torch, to be timed beside ours."""

import math

import torch
from torch import nn
from torch.nn import functional

from benchmarks.torch_models import ViT


class Text(nn.Module):
  """Causal pre-norm transformer over tokens; the end token's output."""

  def __init__(self, vocabulary, context, width, depth, heads, end):
    super().__init__()
    self.end = end
    self.tokens = nn.Embedding(vocabulary, width)
    self.positions = nn.Parameter(0.01 * torch.randn(context, width))
    layer = nn.TransformerEncoderLayer(
      width, heads, 4 * width, 0.0, "gelu", 1e-5, batch_first=True, norm_first=True
    )
    self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
    self.norm = nn.LayerNorm(width, 1e-5)
    mask = nn.Transformer.generate_square_subsequent_mask(context)
    self.register_buffer("mask", mask)

  def forward(self, tokens):
    """Token ids [n, context] -> features [n, width]."""
    x = self.tokens(tokens) + self.positions
    x = self.norm(self.blocks(x, self.mask, is_causal=True))
    end = (tokens == self.end).int().argmax(1)
    return x[torch.arange(len(x)), end]


class Clip(nn.Module):
  """Two towers with linear heads to a shared space, and open_clip's ClipLoss."""

  def __init__(self, image: ViT, text: Text, features: int, width: int):
    super().__init__()
    self.image, self.text = image, text
    self.image_head = nn.Linear(features, width, bias=False)
    self.text_head = nn.Linear(features, width, bias=False)
    self.log_scale = nn.Parameter(torch.tensor(-math.log(0.07)))

  def forward(self, images, tokens):
    """Images [n, 3, h, w] and token ids [n, context] -> the loss."""
    image = functional.normalize(self.image_head(self.image(images)), dim=-1)
    text = functional.normalize(self.text_head(self.text(tokens)), dim=-1)
    scale = self.log_scale.exp()
    per_image = scale * image @ text.T
    per_text = scale * text @ image.T
    labels = torch.arange(len(image))
    ways = per_image, per_text
    return sum(functional.cross_entropy(logits, labels) for logits in ways) / 2
