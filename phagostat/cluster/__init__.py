"""Who does the work: a local dask cluster (later SLURM, or a scheduler that runs already)."""
