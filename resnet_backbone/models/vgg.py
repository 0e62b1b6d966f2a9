"""VGG-16 and VGG-19 (Simonyan and Zisserman 2014), the paper's baseline for classification and detection."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from resnet_backbone.models.blocks import ConvNorm, freeze
from resnet_backbone.models.network import FeatureShape, Network, NetworkConfig, check_features, needed_stages

WIDTHS = (64, 128, 256, 512, 512)


class VGG(Network):
    """Features `conv1` .. `conv5` (each before its max pool, strides 1 to 16) and `pool5` (stride 32).

    Parameters are named after the layers of the original: `conv1_1`, ..., `conv5_3`, `fc6`, `fc7`, `fc8`.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        names = config.variant.stage_names
        check_features(config, (*names, "pool5"))
        self.has_pool5 = config.num_classes is not None or "pool5" in config.out_features
        count = len(names) if self.has_pool5 else needed_stages(config, names)
        self.layers: dict[str, tuple[str, ...]] = {}
        channels = config.in_channels
        for index, name in enumerate(names[:count]):
            self.layers[name] = tuple(f"{name}_{i + 1}" for i in range(config.variant.depths[index]))
            for layer in self.layers[name]:
                self.add_module(layer, _conv(channels, WIDTHS[index], config))
                channels = WIDTHS[index]
            self.shapes[name] = FeatureShape(channels, 2**index)
        self.shapes["pool5"] = FeatureShape(channels, 32)
        if config.num_classes is not None:
            self.fc6 = nn.Linear(channels * 49, 4096)
            self.fc7 = nn.Linear(4096, 4096)
            self.fc8 = nn.Linear(4096, config.num_classes)
            for linear in (self.fc6, self.fc7, self.fc8):
                nn.init.normal_(linear.weight, std=0.01)
                nn.init.zeros_(linear.bias)
            self.shapes["linear"] = FeatureShape(config.num_classes, 0)
        self.freeze(config.freeze_at)

    def stages(self) -> Iterator[tuple[str, nn.Module]]:
        for index, (name, layers) in enumerate(self.layers.items()):
            parts = [_Pool()] if index else []
            yield name, nn.Sequential(*parts, *(_ReLUOf(self.get_submodule(layer)) for layer in layers))
        if self.has_pool5:
            yield "pool5", _Pool()

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        # Any input size: torchvision's rule, which is the identity at 224.
        x = torch.flatten(F.adaptive_avg_pool2d(x, 7), 1)
        for linear in (self.fc6, self.fc7):
            x = F.dropout(F.relu(linear(x)), 0.5, self.training)
        return self.fc8(x)

    def classify_everywhere(self, x: torch.Tensor) -> torch.Tensor:
        """As the VGG paper tests (its Sec. 3.2): fc6 becomes a 7 x 7 convolution, fc7 and fc8 become 1 x 1."""
        x = F.relu(F.conv2d(x, self.fc6.weight.view(4096, -1, 7, 7), self.fc6.bias))
        x = F.relu(F.conv2d(F.dropout(x, 0.5, self.training), self.fc7.weight[:, :, None, None], self.fc7.bias))
        return F.conv2d(F.dropout(x, 0.5, self.training), self.fc8.weight[:, :, None, None], self.fc8.bias)

    def freeze(self, freeze_at: int = 0) -> VGG:
        """Takes the first `freeze_at` stages out of training: 2 is conv1 and conv2, as Fast R-CNN does."""
        for layers in list(self.layers.values())[:freeze_at]:
            for layer in layers:
                conv = self.get_submodule(layer)
                freeze(conv)
        return self


def _conv(in_channels: int, out_channels: int, config: NetworkConfig) -> ConvNorm:
    norm = config.norm if config.variant.batch_norm else ""
    # torchvision's VGG-BN keeps the convolution's bias beside the norm's; so do all weights of it.
    return ConvNorm(in_channels, out_channels, 3, bias=True, norm=norm, eps=config.norm_eps)


class _ReLUOf(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu_(self.layer(x))


class _Pool(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, kernel_size=2, stride=2)
