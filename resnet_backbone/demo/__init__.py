"""The project's own data: generated scenes that every step of the path can be shown on without a download.

`contours` has the outlines, `textures` the surfaces, `scenes` draws one picture and knows what is visible in it,
`shapes` writes a whole data set of them: as COCO JSON, in VOC's layout and as class folders of crops.
"""
