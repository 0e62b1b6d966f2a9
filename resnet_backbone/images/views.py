"""Training views: from a file's bytes to a part of the image, resized to a square; by Pillow, or sooner.

The quick way decodes JPEG by the compiled helper where it is built (only the part), else by OpenCV, and resizes by
torch: within two grey levels of Pillow's pixels, nearly all of which are equal. It leaves to Pillow what decoders may
read differently: other formats, CMYK, files to be turned or cut off. Where data are damaged in the middle, Pillow may
refuse the file; the helper leaves it to do so unless the damage is behind the part, OpenCV fills the rest with grey.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from resnet_backbone.images.decode import open_image
from resnet_backbone.images.jpeg import decode_jpeg, jpeg_size
from resnet_backbone.images.region import Box, decode_region, library
from resnet_backbone.images.resize import resize

Pixels = npt.NDArray[np.uint8]
Choose = Callable[[int, int], Box]
"""Draws a box inside an image of so much height and width."""


def view_of(data: bytes, choose: Choose, size: int, *, plain: bool = False, name: str = "") -> torch.Tensor:
    """A part of an image, resized to a square.

    Args:
        data: a file's content.
        choose: called once, with height and width of the upright image.
        size: side of the view, in pixels.
        plain: Pillow alone, whose pixels are those of torchvision's ImageFolder and RandomResizedCrop (which, though,
            turn no image by its EXIF data).
        name: of the file, for messages.

    Returns:
        RGB of shape 3, size, size, uint8, contiguous.

    Raises:
        ValueError: no image, or one that breaks off; names the file.
    """
    box = None
    if not plain and (bounds := jpeg_size(data)):
        box = choose(*bounds)
        view = _quick_view(data, box, size)
        if view is not None:
            return view
    image = np.asarray(open_image(io.BytesIO(data), name or "image"))
    return view_of_pixels(image, box or choose(*image.shape[:2]), size, plain=plain)


def view_of_pixels(pixels: Pixels, box: Box, size: int, *, plain: bool = False) -> torch.Tensor:
    """The same of an image that is decoded already, RGB of shape (height, width, 3)."""
    if plain:
        return _plain_view(Image.fromarray(pixels), box, size)
    left, top, right, bottom = box
    return resize(pixels[top:bottom, left:right], size, size)


def pixels_of(data: bytes, *, plain: bool = False, name: str = "") -> Pixels:
    """The whole image that `view_of` cuts its parts out of, RGB of shape (height, width, 3).

    Raises:
        ValueError: as `view_of`.
    """
    quick = None if plain else decode_jpeg(data, "RGB")
    return np.asarray(open_image(io.BytesIO(data), name or "image")) if quick is None else quick


def _quick_view(data: bytes, box: Box, size: int) -> torch.Tensor | None:
    """None for what Pillow shall decode."""
    helper = library()
    if helper is not None:
        try:
            part = decode_region(data, box, helper)
        except ValueError:
            return None
        if part is not None:
            return resize(part, size, size)
    image = decode_jpeg(data)
    if image is None:
        return None
    left, top, right, bottom = box
    return resize(image[top:bottom, left:right], size, size).flip(0)  # OpenCV's order is BGR


def _plain_view(image: Image.Image, box: Box, size: int) -> torch.Tensor:
    view = image.crop(box).resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(view).transpose(2, 0, 1).copy())
