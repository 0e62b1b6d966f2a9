"""Runs one probe of what a fix is for, on the Detectron2 whose parent folder is the first argument.

Each probe uses Detectron2 as its users do; without its fix it raises.
"""

import importlib
import sys

sys.path.insert(0, sys.argv[1])


def pillow():
    from detectron2.data.transforms.transform import ExtentTransform

    ExtentTransform((0, 0, 4, 4), (2, 2))


def numpy_build():
    from detectron2.data.build import print_instances_class_histogram

    print_instances_class_histogram([{"annotations": [{"category_id": 0}]}], ["cell"])


def numpy_voc():
    import pathlib
    import tempfile

    from detectron2.data.datasets.pascal_voc import load_voc_instances

    with tempfile.TemporaryDirectory() as folder:
        split = pathlib.Path(folder) / "ImageSets" / "Main" / "train.txt"
        split.parent.mkdir(parents=True)
        split.write_text("000001\n000001\n")
        annotation = pathlib.Path(folder) / "Annotations" / "000001.xml"
        annotation.parent.mkdir()
        annotation.write_text(
            "<annotation><size><width>9</width><height>8</height></size><object><name>cat</name><bndbox>"
            "<xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object></annotation>"
        )
        assert load_voc_instances(folder, "train", ["cat"])[0]["annotations"][0]["bbox"] == [0.0, 1.0, 5.0, 6.0]


def numpy_semantic():
    import numpy as np
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.evaluation import SemSegEvaluator

    DatasetCatalog.register("probe", list)
    MetadataCatalog.get("probe").set(stuff_classes=["a", "b"], ignore_label=255)
    evaluator = SemSegEvaluator("probe", distributed=False)
    evaluator.reset()
    evaluator._conf_matrix = np.eye(3, dtype=int)
    assert evaluator.evaluate()["sem_seg"]["mIoU"] == 100


def resources():
    from detectron2 import model_zoo

    assert model_zoo.get_config("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml").MODEL.RESNETS.DEPTH == 50


def caffe2():
    importlib.import_module("detectron2.export")


def fast_coco():
    from detectron2.evaluation.coco_evaluation import COCOeval_opt

    # Without the fix this class calls into the compiled module when it evaluates.
    assert COCOeval_opt.__module__ == "pycocotools.cocoeval"


def compiled():
    from detectron2 import _C
    from detectron2.layers import deform_conv, nms_rotated  # noqa: F401

    try:
        _C.nms_rotated()
    except RuntimeError as error:
        assert "compiled operators" in str(error) and "Remedy" in str(error)
    else:
        raise AssertionError("the stand-in did nothing")


globals()[sys.argv[2]]()
print("as it should be")
