"""What the stages of Herbariograph are made of; each script in the folder above is a front door to one of them.

A module may import from lower floors and, up to the parts, from its own; stages don't know each other.

Ground, which needs little more than Python itself and so starts at once:
    errors, cli, signals, progress - what goes wrong, command lines, how a process ends, the progress bar
    files, databases, spool, memory - whole files and locks, SQLite, what was read so far, how much memory is free
    untrusted, categories, per_class, recipes, optimization_log - what others wrote: tables, JSON, numbers, settings
    tables, sorting, shards, views - the table of predictions: to resume, to sort by, in parts, as a page
    runs, execution, stage_log - where a run is, how it is carried out, what it took
    parallel, child_process, published - threads and processes, and where the published models come from

Parts:
    images, thumbnails, duplicates, splits, contact_sheet, records - from pictures to records
    device, distribution, randomness, states - what computes, on how many devices, and what it starts from
    layers, architecture, drawing, transfer - a ConvNeXt
    keras_graphs, keras_files, inference - models in files, and their answers
    losses, optimizers, schedules, metrics, uncertainty - what is minimised and measured
    augmentation, batches, preparation, fitting, scoring, history, resumable - a training
    teachers, checkpoints, vit - what is distilled from
    attractors - what fractals are made of
    figures, pages, reporting, embeddings - what is looked at

Stages:
    sample, conversion, fractals, porting, search, distillation, training, soup, evaluation, prediction
"""
