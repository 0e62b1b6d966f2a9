"""`tools/train_net.py --check`: what would make a run wrong from its first minute, found in that minute."""
