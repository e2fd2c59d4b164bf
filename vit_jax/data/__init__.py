"""Datasets and input pipeline. What happens to one image, in reading order:

1. `registry.open_source` opens a split of a dataset by name: the digits
   (`digits`), an image folder (`folder`), a table of images (`table_source`) or
   a TFDS dataset (`tfds_source`; the named ones are in `catalog` and
   `vtab_tasks`). `splits` selects parts of it,
   `exclusions` removes listed examples.
2. The result is a `source.Source`: it yields shuffled records, and reads the
   encoded image and the label of a record.
3. `preprocess` decodes (`decode`), crops, augments and scales the image.
4. `pipeline` does so in parallel and yields batches; `corrupt_examples` handles
   what cannot be read.

`class_matching` finds the classes of a dataset among those of a checkpoint.
`photos` reads single image files, `near_duplicates` finds copies of images.
"""
