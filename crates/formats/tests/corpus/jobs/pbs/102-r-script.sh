#!/usr/bin/env Rscript
#PBS -N bootstrap
#PBS -J 1-200
#PBS -l select=1:ncpus=1:mem=3500mb
#PBS -l walltime=00:40:00
i <- as.integer(Sys.getenv("PBS_ARRAY_INDEX"))
set.seed(1000 + i)
x <- readRDS(file.path(Sys.getenv("PBS_O_WORKDIR"), "x.rds"))
m <- replicate(5000, mean(sample(x, replace = TRUE)))
saveRDS(m, sprintf("boot/%03d.rds", i))
