"""Fine-tuning: a config file to a trained, evaluated and illustrated detector.

`config` reads files and options, `schedule` scales them to the batch, `batches` orders the data, `loop` trains,
`checkpoint` saves and resumes, `testing` evaluates and draws, `run` is all of it in order. The trainer's options
(EMA, accumulation, PreciseBN, ...) are in docs/training.md.
"""
