"""torchvision's detectors with our backbones, against torchvision's own on the same weights."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from test_models import randomize_statistics
from test_weights_load import caffe2_file, saved
from torchvision.models import detection, get_model
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.misc import FrozenBatchNorm2d

import resnet_backbone as rb
from resnet_backbone.weights import load, naming
from resnet_backbone.weights.convert import convert
from resnet_backbone.weights.files import read_weights, write_weights
from resnet_backbone.weights.record import WeightRecord
from resnet_backbone.weights.torchvision_detectors import ZERO_EPS

THEIRS = {
    "faster_rcnn": detection.fasterrcnn_resnet50_fpn,
    "mask_rcnn": detection.maskrcnn_resnet50_fpn,
    "keypoint_rcnn": detection.keypointrcnn_resnet50_fpn,
    "retinanet": detection.retinanet_resnet50_fpn,
    "fcos": detection.fcos_resnet50_fpn,
}
SMALL = {"num_classes": 5, "min_size": 96, "max_size": 128}


def few(kind):
    """No score threshold and few detections: outputs to compare on random weights."""
    if kind in ("retinanet", "fcos"):
        return {**SMALL, "score_thresh": 0.0, "detections_per_img": 5}
    return {**SMALL, "box_score_thresh": 0.0, "box_detections_per_img": 5, "rpn_post_nms_top_n_test": 20}


def stock(kind):
    theirs = THEIRS[kind](weights=None, weights_backbone=None, **few(kind)).eval()
    randomize_statistics(theirs)
    return theirs


def assert_same_features(ours, theirs):
    image = torch.randn(1, 3, 96, 128, dtype=torch.float64)
    with torch.no_grad():
        got, expected = ours.double().backbone(image), theirs.double().backbone(image)
    assert list(got) == list(expected)
    for name, feature in expected.items():
        assert (got[name] - feature).norm() <= 1e-10 * feature.norm() > 0


@pytest.mark.parametrize("kind", THEIRS)
def test_torchvisions_checkpoint_gives_torchvisions_detections(tmp_path, kind):
    theirs = stock(kind)
    path = saved(theirs, tmp_path / "detector.pth")
    ours = rb.torchvision_detector("resnet50", kind=kind, weights=path, **few(kind)).eval()
    images = [torch.rand(3, 96, 128), torch.rand(3, 80, 90)]
    with torch.no_grad():
        for got, expected in zip(ours(images), theirs(images), strict=True):
            assert got.keys() == expected.keys() and len(expected["scores"]) > 0
            for key, value in expected.items():
                assert torch.allclose(got[key], value, rtol=1e-5, atol=1e-5), key
    assert_same_features(ours, theirs)
    back = naming.from_ours(ours.state_dict(), "torchvision")
    wanted = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert back.keys() == wanted.keys() and all(torch.equal(back[k], v) for k, v in wanted.items())


def test_resnet18_from_torchvisions_pieces(tmp_path):
    theirs = detection.FasterRCNN(
        resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=3), **SMALL
    ).eval()
    ours = rb.torchvision_detector("resnet18", weights=saved(theirs, tmp_path / "detector.pth"), **SMALL).eval()
    assert_same_features(ours, theirs)
    # torchvision's usual three trainable layers are our usual freeze_at 2.
    trained = {naming.from_ours({k: p}, "torchvision").popitem()[0]
               for k, p in ours.named_parameters() if p.requires_grad}  # fmt: skip
    assert trained == {k for k, p in theirs.named_parameters() if p.requires_grad}


OLDER = {
    "mask_rcnn": [("rpn.head.conv.0.0.", "rpn.head.conv."),
                  *((f"mask_head.{i}.0.", f"mask_head.mask_fcn{i + 1}.") for i in range(4))],
    "retinanet": [(f"_head.conv.{i}.0.", f"_head.conv.{2 * i}.") for i in range(4)],
}  # fmt: skip


@pytest.mark.parametrize("kind", OLDER)
def test_names_of_torchvisions_older_releases(tmp_path, kind):
    theirs = stock(kind)
    older = {}
    for key, value in theirs.state_dict().items():
        for today, before in (*OLDER[kind], *((f"_blocks.{i}.0.", f"_blocks.{i}.") for i in range(4))):
            key = key.replace(today, before)
        older[key] = value
    changed = older.keys() - theirs.state_dict().keys()
    assert len(changed) >= 16
    theirs.load_state_dict(older)  # torchvision takes these names too
    torch.save(older, tmp_path / "detector.pth")
    ours = rb.torchvision_detector("resnet50", kind=kind, weights=tmp_path / "detector.pth", **few(kind))
    assert_same_features(ours.eval(), theirs)
    for key, value in theirs.double().state_dict().items():
        if not key.startswith("backbone.body."):
            assert torch.equal(ours.state_dict()[key], value), key


def test_eps_of_torchvisions_released_detectors(tmp_path, monkeypatch):
    released = (detection.FasterRCNN_ResNet50_FPN_Weights, detection.MaskRCNN_ResNet50_FPN_Weights,
                detection.KeypointRCNN_ResNet50_FPN_Weights, detection.RetinaNet_ResNet50_FPN_Weights)  # fmt: skip
    assert all(f"-{digits}.pth" in weights.COCO_V1.url for weights, digits in zip(released, ZERO_EPS, strict=True))
    body = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=FrozenBatchNorm2d)
    theirs = detection.FasterRCNN(body, **SMALL).eval()
    for key, tensor in theirs.state_dict().items():
        if key.endswith("running_var"):
            tensor.fill_(1e-3)  # small enough for eps 1e-5 to show
    overwrite_eps(theirs, 0.0)
    path = saved(theirs, tmp_path / "released.pth")
    without = rb.torchvision_detector("resnet18", weights=path, **SMALL).eval()
    with pytest.raises(AssertionError):
        assert_same_features(without, theirs)
    monkeypatch.setattr(load, "ZERO_EPS", (read_weights(path).sha256[:8],))
    ours = rb.torchvision_detector("resnet18", weights=path, **SMALL).eval()
    assert_same_features(ours, theirs)
    assert ours.backbone.record.eps == 0.0
    with pytest.raises(rb.WeightsError, match=r"eps 0 in batch norm.*built with 1e-05"):
        rb.load_weights(without, path)


@pytest.fixture
def classifier(tmp_path):
    theirs = get_model("resnet18", weights=None).eval()
    randomize_statistics(theirs)
    return saved(theirs, tmp_path / "resnet18.pth")


def targets(kind):
    masks = torch.zeros(2, 96, 128, dtype=torch.uint8)
    masks[0, 12:80, 10:70] = masks[1, 20:90, 40:120] = 1
    boxes = torch.tensor([[10.0, 12.0, 70.0, 80.0], [40.0, 20.0, 120.0, 90.0]])
    target = {"boxes": boxes, "labels": torch.tensor([1, 3])}
    if kind == "mask_rcnn":
        target["masks"] = masks
    if kind == "keypoint_rcnn":
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        target["keypoints"] = torch.cat([middle, torch.ones(2, 1)], 1)[:, None].repeat(1, 17, 1)
    return [target]


@pytest.mark.parametrize("kind", THEIRS)
def test_a_training_step_reaches_the_trainable_parameters_alone(classifier, kind):
    model = rb.torchvision_detector("resnet18", kind=kind, weights=classifier, **SMALL).train()
    losses = model([torch.rand(3, 96, 128)], targets(kind))
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        frozen = name.startswith(("backbone.body.stem.", "backbone.body.res2."))
        assert parameter.requires_grad is not frozen, name
        assert (parameter.grad is None) if frozen else bool(torch.isfinite(parameter.grad).all()), name
    assert not any("norm" in name for name, _ in model.backbone.body.named_parameters())


def test_a_classifiers_record_settles_the_input(classifier, tmp_path):
    model = rb.torchvision_detector("resnet18", weights=classifier, **SMALL)
    assert model.transform.image_mean == pytest.approx([0.485, 0.456, 0.406])
    assert model.transform.image_std == pytest.approx([0.229, 0.224, 0.225])
    assert torch.equal(model.backbone.body.stem.conv1.weight, torch.load(classifier)["conv1.weight"])
    half = WeightRecord("resnet_backbone", "x", "resnet18", mean=(127.5,) * 3, std=(51.0,) * 3, eps=1e-3)
    path = write_weights(tmp_path / "net.safetensors", rb.build("resnet18", num_classes=3).state_dict(), half)
    other = rb.torchvision_detector("resnet18", weights=path, image_mean=[0.5, 0.5, 0.5], **SMALL)
    assert other.transform.image_std == pytest.approx([0.2] * 3)
    assert other.backbone.body.res5[1].conv2.norm.eps == 1e-3
    with pytest.raises(rb.WeightsError, match=r"image_mean is \[0.4, 0.4, 0.4\].*expect \[0.5, 0.5, 0.5\]"):
        rb.torchvision_detector("resnet18", weights=path, image_mean=(0.4, 0.4, 0.4), **SMALL)
    with pytest.raises(rb.WeightsError, match="image_mean is .*torchvision_detector\\(weights"):
        rb.load_weights(rb.torchvision_detector("resnet18", norm_eps=1e-3, **SMALL), path, fine_tune=True)


@torch.no_grad()
def test_bgr_weights_see_rgb_images_as_bgr_by_hand(tmp_path):
    path = caffe2_file(tmp_path / "R-50.pkl")
    model = rb.torchvision_detector("resnet50", weights=path, **SMALL).eval().double()
    names = ("res2", "res3", "res4", "res5")
    by_hand = rb.build("resnet50", out_features=names, norm="FrozenBN", weights=path).eval().double()
    image = torch.rand(3, 96, 128, dtype=torch.float64)
    bgr = image.flip(0) * 255 - torch.tensor([103.53, 116.28, 123.675], dtype=torch.float64)[:, None, None]
    expected = by_hand(bgr[None])
    got = model.backbone.body(model.transform([image])[0].tensors)
    for name in names:
        assert (got[name] - expected[name]).norm() <= 1e-10 * expected[name].norm() > 0
    record = model.backbone.record
    assert (record.channel_order, record.mean) == ("RGB", (123.675, 116.28, 103.53)) and record.stride_in_1x1
    assert any("turned round for RGB" in note for note in record.notes)
    with pytest.raises(rb.WeightsError, match="take RGB, .* are assumed to expect BGR"):
        rb.load_weights(rb.torchvision_detector("resnet50", norm="FrozenBN", **SMALL), path, fine_tune=True)


@torch.no_grad()
def test_a_saved_detector_of_ours_comes_back_with_its_record(tmp_path):
    first = rb.torchvision_detector("resnet50", weights=caffe2_file(tmp_path / "R-50.pkl"), **SMALL).eval()
    path = write_weights(tmp_path / "trained.safetensors", first.state_dict(), first.backbone.record)
    again = rb.torchvision_detector("resnet50", weights=path, **SMALL).eval()
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert again.transform.image_mean == first.transform.image_mean and again.backbone.body.config.stride_in_1x1
    with pytest.raises(rb.WeightsError, match="misshapen"):
        rb.torchvision_detector("resnet50", weights=path, **{**SMALL, "num_classes": 4})
    fewer = rb.torchvision_detector("resnet50", weights=path, fine_tune=True, **{**SMALL, "num_classes": 4})
    assert torch.equal(fewer.rpn.head.cls_logits.weight, first.rpn.head.cls_logits.weight)
    assert fewer.roi_heads.box_predictor.cls_score.out_features == 4
    with pytest.raises(rb.WeightsError, match="without its record"):
        rb.torchvision_detector("resnet50", weights=saved(first, tmp_path / "bare.pth"), **SMALL)
    backbone = rb.build("resnet50", out_features=("res5",), norm="FrozenBN", weights=path).eval()
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(backbone(image)["res5"], first.backbone.body(image)["res5"])


def test_convert_renames_a_detector_both_ways(tmp_path):
    theirs = stock("fcos")
    convert(saved(theirs, tmp_path / "fcos.pth"), tmp_path / "ours.pth", "resnet_backbone")
    ours = rb.torchvision_detector("resnet50", kind="fcos", weights=tmp_path / "ours.pth", **few("fcos"))
    assert_same_features(ours.eval(), theirs)
    convert(tmp_path / "ours.pth", tmp_path / "theirs.pth", "torchvision")
    stock("fcos").load_state_dict(torch.load(tmp_path / "theirs.pth")["model"], strict=True)
    with pytest.raises(rb.WeightsError, match="caffe2 has no names for a torchvision detector"):
        convert(tmp_path / "ours.pth", tmp_path / "caffe2.pth", "caffe2")


@pytest.mark.parametrize(
    ("name", "kind", "strides"),
    [
        ("vgg16", "faster_rcnn", (4, 8, 16, 32, 64)),
        ("vgg16_bn", "retinanet", (8, 16, 32, 64, 128)),
        ("plain18", "fcos", (8, 16, 32, 64, 128)),
        ("resnext50_32x4d", "faster_rcnn", (4, 8, 16, 32, 64)),
    ],
)
@torch.no_grad()
def test_levels_of_other_networks(name, kind, strides):
    model = rb.torchvision_detector(name, kind=kind, fpn_channels=64, **SMALL).eval()
    features = model.backbone(torch.randn(1, 3, 128, 128))
    assert [f.shape for f in features.values()] == [(1, 64, 128 // s, 128 // s) for s in strides]
    assert model.backbone.record is None
    detections = model([torch.rand(3, 96, 128)])
    assert detections[0].keys() == {"boxes", "labels", "scores"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "retina_net"}, "did you mean 'retinanet'"),
        ({"name": "resnet51"}, "did you mean 'resnet50'"),
        ({"name": "cifar_resnet20"}, "strides are 1 to 4"),
        ({"num_classes": 1}, "counts the background"),
        ({"kind": "fcos", "num_classes": None}, "num_classes None"),
        ({"box_score_tresh": 0.1}, "did you mean box_score_thresh"),
        ({"score_thresh": 0.1}, "score_thresh is no option of faster_rcnn"),
        ({"trainable_backbone_layers": 3}, "say freeze_at"),
        ({"shortcut": "D"}, "use one of A, B, C, none"),
        ({"norm": "BatchNorm"}, "unknown norm 'BatchNorm'"),
        ({"weights": "no/such/file.pth"}, "no such file"),
    ],
)
def test_what_does_not_fit_is_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        rb.torchvision_detector(**{"name": "resnet18", "num_classes": 5, **arguments})


def test_weights_of_another_kind_are_refused(classifier, tmp_path):
    with pytest.raises(rb.WeightsError, match="the file is resnet18"):
        rb.torchvision_detector("resnet34", weights=classifier, **SMALL)
    path = caffe2_file(tmp_path / "R-50.pkl")
    with pytest.raises(rb.WeightsError, match=r"stride_in_1x1=True.*built with False"):
        rb.torchvision_detector("resnet50", weights=path, stride_in_1x1=False, **SMALL)
    foreign = {"backbone.bottom_up." + k: v for k, v in rb.build("resnet18", num_classes=2).state_dict().items()}
    torch.save({"model": foreign}, tmp_path / "model_final.pth")
    with pytest.raises(rb.WeightsError, match="a Detectron2 detector"):
        rb.torchvision_detector("resnet18", weights=tmp_path / "model_final.pth", **SMALL)


def test_works_where_detectron2_cannot_be_imported():
    script = (
        "import sys\n"
        "sys.modules['detectron2'] = sys.modules['fvcore'] = None\n"
        "import torch, resnet_backbone as rb\n"
        "assert 'torchvision' not in sys.modules\n"
        "model = rb.torchvision_detector('resnet18', num_classes=2, min_size=64, max_size=64).eval()\n"
        "print(sorted(model([torch.rand(3, 64, 64)])[0]), 'detectron2.layers' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['boxes', 'labels', 'scores'] False"
