"""What is to be found in a registered data set, in the forms that COCO's and VOC's metrics read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from resnet_backbone.detection.data.unannotated import allow_unannotated, is_voc
from resnet_backbone.evaluation.json_files import read_json
from resnet_backbone.evaluation.truth import GroundTruth
from resnet_backbone.evaluation.voc_xml import read_annotation


def load_ground_truth(dataset_name: str) -> GroundTruth:
    """Ground truth of a data set in Detectron2's catalog.

    A data set with a COCO file is read from that file, so that the numbers are those of COCO's own tools;
    any other from its records. Detectron2's records of VOC do not say what is difficult: its XML files do.
    """
    metadata = MetadataCatalog.get(dataset_name)
    if metadata.get("json_file"):
        if metadata.get("thing_dataset_id_to_contiguous_id") is None:
            DatasetCatalog.get(dataset_name)  # sets it
        coco = read_json(Path(PathManager.get_local_path(metadata.json_file)))
        ids = _category_ids(metadata, sorted(c["id"] for c in coco["categories"]))
        names = {c["id"]: c["name"] for c in coco["categories"]}
        classes = metadata.get("thing_classes") or [names[i] for i in ids]
        return GroundTruth(coco, tuple(classes), ids, coco.get("annotations") is not None)
    allow_unannotated(dataset_name)
    records = DatasetCatalog.get(dataset_name)
    ids = _category_ids(metadata, range(1, len(metadata.thing_classes) + 1))
    annotated = any("annotations" in r for r in records)
    if annotated and is_voc(metadata):
        _add_difficult(records, Path(PathManager.get_local_path(metadata.dirname)) / "Annotations")
    coco = _coco_format(records, metadata.thing_classes, ids)
    return GroundTruth(coco, tuple(metadata.thing_classes), ids, annotated)


def _category_ids(metadata: Any, otherwise: Sequence[int]) -> tuple[int, ...]:
    """By class index."""
    indices = metadata.get("thing_dataset_id_to_contiguous_id")
    return tuple(sorted(indices, key=indices.__getitem__)) if indices else tuple(otherwise)


def _add_difficult(records: list[dict[str, Any]], folder: Path) -> None:
    for record in records:
        objects = read_annotation(folder / f"{record['image_id']}.xml").objects
        for annotation, one in zip(record["annotations"], objects, strict=True):
            annotation["difficult"] = one.difficult


def _coco_format(records: list[dict[str, Any]], names: Sequence[str], ids: Sequence[int]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for record in records:
        for one in record.get("annotations", ()):
            box = BoxMode.convert([float(v) for v in one["bbox"]], one["bbox_mode"], BoxMode.XYWH_ABS)
            fields = {k: one[k] for k in ("iscrowd", "difficult", "segmentation", "area") if k in one}
            annotations.append(
                {
                    **fields,
                    "id": len(annotations) + 1,
                    "image_id": _plain(record["image_id"]),
                    "category_id": ids[one["category_id"]],
                    "bbox": list(box),
                }
            )
    images = [
        {"id": _plain(r["image_id"]), "file_name": str(r["file_name"]), "height": r["height"], "width": r["width"]}
        for r in records
    ]
    categories = [{"id": i, "name": name} for i, name in zip(ids, names)]
    return {"images": images, "categories": categories, "annotations": annotations}


def _plain(image_id: Any) -> int | str:
    """Detectron2 reads VOC's ids as numpy strings, which JSON does not know."""
    return str(image_id) if isinstance(image_id, str) else int(image_id)
