"""Looks at images and videos with a trained detector: draws what it finds, and writes results for COCO's tools."""

import argparse
import sys
from pathlib import Path

EXAMPLES = """examples:
  python tools/predict.py --weights runs/faster_rcnn_R50_bccd photo.jpg holiday/ clip.mp4
  python tools/predict.py --weights runs/faster_rcnn_R50_bccd holiday/ --threshold 0.7 --output found
  python tools/predict.py --weights runs/faster_rcnn_R50_bccd clip.mp4 --every 10 --no-pictures
  python tools/predict.py --weights runs/faster_rcnn_R50_bccd holiday/ MODEL.DEVICE cpu INPUT.MIN_SIZE_TEST 400
  python tools/predict.py --weights downloads/detector.pth --config downloads/detector.yaml photo.jpg

Of a folder its own images and videos are taken, not those in folders inside it. Written are pictures/ (images as .jpg,
videos as .mp4, with the objects from --threshold on), coco_instances_results.json (every detection from the model's
own threshold on, MODEL.ROI_HEADS.SCORE_THRESH_TEST) and images.json (which image and class each id means):
COCO("images.json").loadRes("coco_instances_results.json") of pycocotools reads both. The ids of a video's frames count
up from its first; a video alone has its frame numbers, from 0 on.

Exit code: 0; 1 where something is wrong or an image does not decode (the others are done); 130 after Ctrl-C (what was
done until then is written).
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--weights", required=True, type=Path, metavar="RUN", help="a run's folder, or a weights file")
    made.add_argument("--config", type=Path, metavar="FILE", help="default: config.yaml beside the weights")
    made.add_argument("--output", type=Path, metavar="DIR", help="default: RUN/predictions")
    made.add_argument(
        "--threshold", type=float, metavar="S", help="score from which on to draw and count (default: the run's, 0.5)"
    )
    made.add_argument("--every", type=int, default=1, metavar="N", help="of videos only every N-th frame")
    made.add_argument("--no-pictures", action="store_true", help="results alone")
    made.add_argument("inputs", nargs="+", metavar="IMAGES|DIR|VIDEO", help='also "patterns/*.jpg", and KEY VALUE')
    return made


def main() -> int:
    """Returns 0, 1 after a sentence on what is wrong or was left out, or 130 when stopped."""
    arguments = parser().parse_intermixed_args()
    from resnet_backbone.detection.prediction.predict import PredictOptions, start

    options = PredictOptions(
        weights=arguments.weights, words=tuple(arguments.inputs), config=arguments.config, output=arguments.output,
        threshold=arguments.threshold, every=arguments.every, pictures=not arguments.no_pictures,
    )  # fmt: skip
    return start(options)


if __name__ == "__main__":
    sys.exit(main())
