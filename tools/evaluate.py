"""COCO's and VOC's numbers from files alone: detections of any program against annotations, without a model."""

import argparse
import sys
from pathlib import Path

EXAMPLES = """examples:
  python tools/evaluate.py coco_instances_results.json instances_val2017.json
  python tools/evaluate.py results.json instances_val2017.json --iou-type segm --json numbers.json
  python tools/evaluate.py runs/faster_rcnn_R50_voc12/evaluation/voc_2012_val/results VOCdevkit/VOC2012 --split val
  python tools/evaluate.py theirs.json cars --split val --classes car truck
  python tools/evaluate.py comp4_det_test_cat.txt VOCdevkit/VOC2007 --split test --voc-rounding detectron2

RESULTS is COCO's results JSON (a list of image_id, category_id, score, and bbox or segmentation), one of VOC's text
files comp4_det_<split>_<class>.txt, or a folder with those. ANNOTATIONS is a COCO JSON file, or a folder in VOC's
layout, of which Annotations and ImageSets/Main are read; images need not be there. A class without a text file counts
as not found.

A VOC folder has no category ids. Those of JSON results are what coco_categories.json beside RESULTS says, which our own
runs write; --classes says it for results of others, and names the classes to measure. Else they count from 1 in the
alphabetical order of VOC's twenty classes or, where the folder has others, of all of its classes.

Printed are COCO's twelve numbers, VOC's AP at 0.5 by all points and by 11, both for every class, in percent, and why
a number is 0 or nan where that can be seen. Detectron2 is not needed.

Exit code: 0; 1 after one sentence where a file is wrong.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("results", type=Path, metavar="RESULTS", help="COCO results JSON, or VOC's text files")
    made.add_argument("annotations", type=Path, metavar="ANNOTATIONS", help="COCO JSON file, or VOC folder")
    made.add_argument("--split", default="", metavar="NAME", help="of a VOC folder: ImageSets/Main/NAME.txt")
    made.add_argument(
        "--classes", nargs="+", default=(), metavar="NAME", help="of a VOC folder, by rising category id of the results"
    )
    made.add_argument(
        "--iou-type", choices=("bbox", "segm", "auto"), default="auto", help="default: auto, what both files have"
    )
    made.add_argument(
        "--voc-rounding", choices=("none", "detectron2"), default="none", help="VOC's numbers as Detectron2 rounds"
    )
    made.add_argument("--json", type=Path, metavar="OUT", help="write the numbers there, too")
    return made


def main() -> int:
    """Returns 0, or 1 after one sentence on what is wrong."""
    arguments = parser().parse_args()
    from resnet_backbone.evaluation.from_files import EvaluateOptions, start

    options = EvaluateOptions(
        results=arguments.results, annotations=arguments.annotations, split=arguments.split,
        iou_type=arguments.iou_type, voc_rounding=arguments.voc_rounding, json=arguments.json,
        classes=tuple(arguments.classes),
    )  # fmt: skip
    return start(options)


if __name__ == "__main__":
    sys.exit(main())
