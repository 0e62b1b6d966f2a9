"""Detectron2's training mapper with a quicker way from the file to the resized image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from fvcore.transforms.transform import Transform
from PIL import Image

from resnet_backbone.images.jpeg import decode_jpeg
from resnet_backbone.images.resize import resize

Record = dict[str, Any]
Pixels = npt.NDArray[np.uint8]


class FastMapper(DatasetMapper):
    """Detectron2's DatasetMapper with another image path: OpenCV's JPEG decoder, torch's resizing.

    Boxes and masks go through Detectron2's own transforms; what is drawn at random is the same. Pixels differ from
    Detectron2's by one grey level at most. Files that the two decoders may read differently (other formats, CMYK,
    turned by EXIF or XMP, cut off) and records with more than objects (semantic maps, proposals) take Detectron2's way.
    """

    def __init__(self, cfg: CfgNode, is_train: bool = True) -> None:
        super().__init__(cfg, is_train)
        plain = self.image_format in ("RGB", "BGR")
        self._read: Callable[[str, str], Pixels] = read_image if plain else utils.read_image
        given: T.AugmentationList = self.augmentations  # type: ignore[has-type]
        self.augmentations = T.AugmentationList([_faster(one) for one in given.augs])

    def __call__(self, dataset_dict: Record) -> Record:
        """What the model takes: "image" of 3,H,W uint8, "instances" of what is left of the annotations."""
        if "sem_seg_file_name" in dataset_dict or self.proposal_topk is not None:
            made: Record = super().__call__(dataset_dict)
            return made
        record = _copied(dataset_dict)
        image = self._read(record["file_name"], self.image_format)
        utils.check_image_size(record, image)
        seen = T.AugInput(image)
        transforms = self.augmentations(seen)
        record["image"] = torch.from_numpy(channels_first(seen.image))
        if not self.is_train:
            record.pop("annotations", None)
        elif "annotations" in record:
            self._transform_annotations(record, transforms, seen.image.shape[:2])
        return record


def training_mapper(cfg: CfgNode) -> Callable[[Record], Record]:
    """The mapper that INPUT.MAPPER_TRAIN names: "fast", or "detectron2" for its own.

    Raises:
        ValueError: it names something else.
    """
    name = cfg.INPUT.MAPPER_TRAIN
    if name not in ("fast", "detectron2"):
        raise ValueError(f"INPUT.MAPPER_TRAIN: {name!r} is neither 'fast' nor 'detectron2'")
    mapper: Callable[[Record], Record] = FastMapper(cfg, True) if name == "fast" else DatasetMapper(cfg, True)
    return mapper


def read_image(file: str, order: str) -> Pixels:
    """An upright image of shape (height, width, 3), 0..255, channels in `order`: "RGB" or "BGR".

    The same as Detectron2's `read_image`, by its own code where the file is not a plain JPEG.
    """
    if "://" not in file:
        with open(file, "rb") as stream:
            image = decode_jpeg(stream.read(), "RGB" if order == "RGB" else "BGR")
        if image is not None:
            return image
    slow: Pixels = utils.read_image(file, format=order)
    return slow


def channels_first(image: Pixels) -> Pixels:
    """H,W,C to contiguous C,H,W; numpy's way there takes most of a millisecond.

    What torch has resized lies in memory with its channels first already, and a mirrored image is a view that runs
    backwards, which neither torch nor OpenCV takes.
    """
    mirrored = image.strides[1] < 0
    image = image[:, ::-1] if mirrored else image
    planar = image.transpose(2, 0, 1)
    if not planar.flags.c_contiguous:
        planar = np.empty(planar.shape, np.uint8)
        cv2.split(np.ascontiguousarray(image), list(planar))
    return torch.from_numpy(planar).flip(2).numpy() if mirrored else planar


class AntialiasedResize(T.ResizeTransform):
    """Detectron2's resizing, the pixels by torch: bilinear with antialiasing, as Pillow does, in uint8."""

    def apply_image(self, img: npt.NDArray[Any], interp: Any = None) -> npt.NDArray[Any]:
        """H,W,C uint8 to new_h,new_w,C; anything else is Pillow's."""
        bilinear = (interp or self.interp) == Image.Resampling.BILINEAR
        if img.dtype != np.uint8 or img.ndim != 3 or not bilinear or min(img.strides) < 0:
            other: npt.NDArray[Any] = super().apply_image(img, interp)
            return other
        if img.shape[:2] == (self.new_h, self.new_w):
            return img
        return resize(img, self.new_h, self.new_w).permute(1, 2, 0).numpy()


def _faster(augmentation: T.Augmentation) -> T.Augmentation:
    """The same augmentation, drawing the same; a resizing one resizes by `AntialiasedResize`."""
    if type(augmentation) is not T.ResizeShortestEdge:
        return augmentation
    draw = augmentation.get_transform

    def get_transform(image: npt.NDArray[Any]) -> Transform:
        drawn = draw(image)
        if type(drawn) is not T.ResizeTransform:
            return drawn
        return AntialiasedResize(drawn.h, drawn.w, drawn.new_h, drawn.new_w, drawn.interp)

    augmentation.get_transform = get_transform
    return augmentation


def _copied(record: Record) -> Record:
    """A record that may be changed; Detectron2 changes annotations, and polygons that are arrays."""
    made = dict(record)
    if "annotations" in made:
        made["annotations"] = [_own(one) for one in made["annotations"]]
    return made


def _own(annotation: Record) -> Record:
    made = dict(annotation)
    masks = made.get("segmentation")
    if isinstance(masks, list):
        made["segmentation"] = [np.array(one) for one in masks]
    if "keypoints" in made:
        made["keypoints"] = list(made["keypoints"])
    return made
