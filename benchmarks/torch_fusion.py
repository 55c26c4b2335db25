"""A fusion model after ALBEF and its training step, written plainly in torch.

What ALBEF's own code computes (Li et al. 2021, Align before Fuse): nothing is compiled,
and nothing is left out but the word head at words that are not hidden. To be timed
beside ours.
"""

import copy
import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from benchmarks.torch_models import ViT

_END, _MASK, _SPECIAL = 2, 3, 4  # ids below the last are no words


class Sizes(NamedTuple):
  """Of the model."""

  side: int
  patch: int
  width: int
  heads: int
  image_depth: int
  text_depth: int
  fusion_depth: int
  shared: int
  vocabulary: int
  context: int


class Knobs(NamedTuple):
  """Of the step."""

  alpha: float
  mask_rate: float
  temperature: float
  target_momentum: float
  learning_rate: float
  weight_decay: float
  b2: float
  mean: tuple[float, ...]
  std: tuple[float, ...]


class ImageTokens(ViT):
  """The vision transformer, all of whose tokens are wanted."""

  def forward(self, x):
    """Images [n, 3, side, side] -> tokens [n, p, width], the class token first."""
    x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
    x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
    return self.norm(self.blocks(x))


class Text(nn.Module):
  """Bidirectional pre-norm transformer over tokens."""

  def __init__(self, vocabulary, context, width, depth, heads):
    super().__init__()
    self.tokens = nn.Embedding(vocabulary, width)
    nn.init.normal_(self.tokens.weight, std=0.02)
    self.positions = nn.Parameter(0.01 * torch.randn(context, width))
    layer = nn.TransformerEncoderLayer(
      width, heads, 4 * width, 0.0, "gelu", 1e-5, batch_first=True, norm_first=True
    )
    self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
    self.norm = nn.LayerNorm(width, 1e-5)

  def forward(self, tokens, padding):
    """Token ids [n, t] and where there are none [n, t] -> states [n, t, width]."""
    x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
    return self.norm(self.blocks(x, src_key_padding_mask=padding))


class Fusion(nn.Module):
  """Image encoder, text layers, fusion layers, and heads."""

  def __init__(self, sizes: Sizes):
    super().__init__()
    s, width = sizes, sizes.width
    self.image = ImageTokens(s.side, s.patch, width, s.image_depth, s.heads)
    self.text = Text(s.vocabulary, s.context, width, s.text_depth, s.heads)
    layer = nn.TransformerDecoderLayer(
      width, s.heads, 4 * width, 0.0, "gelu", 1e-5, batch_first=True, norm_first=True
    )
    norm = nn.LayerNorm(width, 1e-5)
    self.fusion = nn.TransformerDecoder(layer, s.fusion_depth, norm)
    self.image_head = nn.Linear(width, s.shared, bias=False)
    self.text_head = nn.Linear(width, s.shared, bias=False)
    self.match_head = nn.Linear(width, 2)
    self.word_head = nn.Sequential(
      nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, 1e-5)
    )
    self.word_bias = nn.Parameter(torch.zeros(s.vocabulary))
    self.log_scale = nn.Parameter(torch.zeros(()))

  def rows(self, image_tokens, states):
    """Unit rows [n, shared] of images and of texts."""
    image = self.image_head(image_tokens[:, 0])
    text = self.text_head(states[:, 0])
    return functional.normalize(image, dim=-1), functional.normalize(text, dim=-1)

  def fuse(self, states, padding, image_tokens):
    """States [n, t, width] of texts that have seen their images."""
    return self.fusion(states, image_tokens, tgt_key_padding_mask=padding)

  def words(self, hidden, padding, image_tokens, where):
    """Logits [m, vocabulary] of the m words of `where` [n, t] in hidden [n, t]."""
    fused = self.fuse(self.text(hidden, padding), padding, image_tokens)
    made = self.word_head(fused[where])
    return functional.linear(made, self.text.tokens.weight, self.word_bias)


class Pretraining:
  """The model, its momentum copy, the queues and the optimiser."""

  def __init__(self, net: Fusion, queues, knobs: Knobs):
    """Queues are two [k, shared], the older keys of images and of texts."""
    self.net, self.knobs = net, knobs
    nn.init.constant_(net.log_scale, -math.log(knobs.temperature))
    self.copy = copy.deepcopy(net).requires_grad_(False)
    self.queues, self.start = queues, 0
    some = [[p for p in net.parameters() if (p.ndim > 1) == many] for many in (1, 0)]
    self.optimizer = torch.optim.AdamW(
      [{"params": some[0]}, {"params": some[1], "weight_decay": 0.0}],
      knobs.learning_rate,
      (0.9, knobs.b2),
      weight_decay=knobs.weight_decay,
    )

  def step(self, pixels, tokens):
    """Trains on bytes [n, 3, side, side] and ids [n, t]; the three losses."""
    self.optimizer.zero_grad(set_to_none=True)
    losses, keys = self.losses(pixels, tokens)
    sum(losses).backward()
    self.optimizer.step()
    with torch.no_grad():
      for old, new in zip(self.copy.parameters(), self.net.parameters(), strict=True):
        old.lerp_(new, 1 - self.knobs.target_momentum)
      self._push(keys)
    return [loss.item() for loss in losses]

  def losses(self, pixels, tokens):
    """Contrast, matching and hidden words; and the keys of images and texts."""
    images = self._normalise(pixels)
    padding = _padding(tokens)
    hidden, where = hide(tokens, self.knobs.mask_rate)
    with torch.no_grad():
      seen = self.copy.image(images)
      keys = self.copy.rows(seen, self.copy.text(tokens, padding))
      said = self.copy.words(hidden, padding, seen, where)
    seen = self.net.image(images)
    states = self.net.text(tokens, padding)
    rows = self.net.rows(seen, states)
    scale = self.net.log_scale.exp()
    contrast = self._contrast(rows, keys, scale)
    matching = self._matching(seen, states, padding, rows, keys, scale.detach())
    logits = self.net.words(hidden, padding, seen, where)
    hard = functional.cross_entropy(logits, tokens[where])
    soft = functional.cross_entropy(logits, said.softmax(-1))
    words = (1 - self.knobs.alpha) * hard + self.knobs.alpha * soft
    return (contrast, matching, words), keys

  def _normalise(self, pixels):
    mean, std = (
      torch.tensor(x)[:, None, None] for x in (self.knobs.mean, self.knobs.std)
    )
    return (pixels.float() / 255 - mean) / std

  def _contrast(self, rows, keys, scale):
    alpha, total = self.knobs.alpha, 0.0
    for way in (0, 1):
      candidates = torch.cat([keys[1 - way], self.queues[1 - way]])
      with torch.no_grad():
        targets = alpha * (scale * keys[way] @ candidates.T).softmax(-1)
        targets.diagonal().add_(1 - alpha)
      total = total + functional.cross_entropy(
        scale * rows[way] @ candidates.T, targets
      )
    return total / 2

  def _matching(self, seen, states, padding, rows, keys, scale):
    with torch.no_grad():
      hard_texts = _draw(scale * rows[0] @ keys[1].T)
      hard_images = _draw(scale * rows[1] @ keys[0].T)
    fused = self.net.fuse(
      torch.cat([states, states, states[hard_texts]]),
      torch.cat([padding, padding, padding[hard_texts]]),
      torch.cat([seen, seen[hard_images], seen]),
    )
    n = len(states)
    labels = torch.cat([torch.ones(n), torch.zeros(2 * n)]).long()
    return functional.cross_entropy(self.net.match_head(fused[:, 0]), labels)

  def _push(self, keys):
    size = len(self.queues[0])
    place = (self.start + torch.arange(len(keys[0]))) % size
    for queue, new in zip(self.queues, keys, strict=True):
      queue[place[-size:]] = new[-size:]
    self.start = (self.start + len(keys[0])) % size


def hide(tokens, rate):
  """Tokens with a share of the words hidden as BERT does, and which [n, t] these are.

  Of m words `round(rate m)`, at least one, as ours.
  """
  words = tokens >= _SPECIAL
  count = (rate * words.sum(1) + 0.5).floor().clamp(min=1)
  order = torch.rand(tokens.shape).masked_fill(~words, 2).argsort(1).argsort(1)
  where = words & (order < count[:, None])
  kind = torch.rand(tokens.shape)
  other = torch.randint_like(tokens, _SPECIAL, int(tokens.max()) + 1)
  read = torch.where(kind < 0.8, _MASK, torch.where(kind < 0.9, other, tokens))
  return torch.where(where, read, tokens), where


def _padding(tokens):
  """[n, t] True after the end token."""
  ends = (tokens == _END).int().argmax(1)
  return torch.arange(tokens.shape[1])[None, :] > ends[:, None]


def _draw(logits):
  """For each row another row's number, the likelier the larger its logit."""
  weights = logits.softmax(-1) + 1e-5
  weights.fill_diagonal_(0)
  return torch.multinomial(weights, 1)[:, 0]
