"""What `tools/pretrain_imagenet.py --check` looks at."""
