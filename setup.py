"""Packaging; reads nothing but this file and the README, so that building needs no torch."""

from pathlib import Path

from setuptools import find_packages, setup

REPORT = ["matplotlib>=3.8", "tensorboard>=2.15"]

setup(
    name="resnet-backbone",
    version="0.1.0",
    description="The networks of Deep Residual Learning as verified backbones for Detectron2 and torchvision",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["resnet_backbone", "resnet_backbone.*"]),
    package_data={"resnet_backbone": ["py.typed", "images/region.c"]},
    install_requires=[
        "torch>=2.11",
        "torchvision>=0.26",
        "numpy>=1.26",
        "Pillow>=10",
        "PyYAML>=6",
        "safetensors>=0.5",
        "tqdm>=4.60",
        "fvcore>=0.1.5.post20221221",
        "iopath>=0.1.9",
        "pycocotools>=2.0.8",
        "opencv-python>=4.9",
        # What Detectron2's Python files import; its own metadata pins versions that no longer build.
        "yacs>=0.1.8",
        "omegaconf>=2.3",
        "hydra-core>=1.3",
        "cloudpickle>=3",
        "tabulate>=0.9",
        "termcolor>=2",
        "black>=24",
        *REPORT,
    ],
    extras_require={
        "report": REPORT,
        "eval": ["hotcoco>=1.3,<2"],
        "export": ["onnx>=1.18", "onnxruntime>=1.22", "onnxscript>=0.7"],
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "scipy>=1.11",
            "hypothesis>=6.100",
            "ruff>=0.9",
            "mypy>=1.15",
            "types-PyYAML>=6.0.12",
            "timm>=1.0.15",
            "webdataset>=1.0",  # reads our shards, as an oracle
            "onnx>=1.18",
            "onnxruntime>=1.22",
            "onnxscript>=0.7",
            "setuptools>=77",
            "wheel>=0.42",
        ],
    },
    entry_points={"console_scripts": ["resnet-backbone=resnet_backbone.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
