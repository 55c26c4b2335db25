"""ResNets and vision transformers written plainly in torch, to be timed beside ours."""

import torch
from torch import nn


class ViT(nn.Module):
  """Pre-norm transformer over patches with a class token."""

  def __init__(self, size, patch, width, depth, heads):
    super().__init__()
    self.patches = nn.Conv2d(3, width, patch, patch)
    self.token = nn.Parameter(torch.zeros(1, 1, width))
    count = (size // patch) ** 2
    self.register_buffer("positions", torch.zeros(1, count, width))
    layer = nn.TransformerEncoderLayer(
      width, heads, 4 * width, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
    )
    self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
    self.norm = nn.LayerNorm(width, 1e-6)

  def forward(self, x):
    """Images [n, 3, size, size] -> features [n, width]."""
    x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
    x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
    return self.norm(self.blocks(x))[:, 0]


def _conv(i, o, kernel, stride=1):
  return nn.Conv2d(i, o, kernel, stride, kernel // 2, bias=False)


class Block(nn.Module):
  """A residual block: two 3x3 convolutions, or a bottleneck of three."""

  def __init__(self, i, width, stride, bottleneck):
    super().__init__()
    o = 4 * width if bottleneck else width
    if bottleneck:
      layers = [(i, width, 1, 1), (width, width, 3, stride), (width, o, 1, 1)]
    else:
      layers = [(i, width, 3, stride), (width, o, 3, 1)]
    body = []
    for layer in layers:
      body += [_conv(*layer), nn.BatchNorm2d(layer[1]), nn.ReLU(inplace=True)]
    self.body = nn.Sequential(*body[:-1])
    self.shortcut = nn.Identity()
    if stride > 1 or i != o:
      self.shortcut = nn.Sequential(_conv(i, o, 1, stride), nn.BatchNorm2d(o))

  def forward(self, x):
    """Maps [n, i, h, w] to [n, o, h / stride, w / stride]."""
    return nn.functional.relu(self.body(x) + self.shortcut(x))


def resnet(stages, bottleneck, small):
  """A ResNet of blocks per stage; `small` is the stem for small images."""
  stem = _conv(3, 64, 3) if small else _conv(3, 64, 7, 2)
  layers = [stem, nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
  if not small:
    layers.append(nn.MaxPool2d(3, 2, 1))
  i = 64
  for stage, blocks in enumerate(stages):
    for block in range(blocks):
      width, stride = 64 * 2**stage, 2 if stage and not block else 1
      layers.append(Block(i, width, stride, bottleneck))
      i = 4 * width if bottleneck else width
  return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
