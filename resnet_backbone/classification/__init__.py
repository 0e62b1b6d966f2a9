"""Classifiers: pretrained on ImageNet, CIFAR or images of one's own, and tested as the paper does.

`recipe` says what is trained, `data` what it sees, `prepare` makes data ready once, `preflight` looks before a run,
`training` runs it, `testing` measures what came out, `figures` draws it. Knows nothing of Detectron2.
"""
