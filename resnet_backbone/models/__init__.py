"""The paper's networks as plain `torch.nn` modules: nothing here knows files, configs or Detectron2."""
