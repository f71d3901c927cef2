#!/usr/bin/env Rscript
#SBATCH --job-name=boot
#SBATCH --array=1-200%25
#SBATCH --mem-per-cpu=1500M
#SBATCH --time=0:20:00
#SBATCH --output=boot-%a.Rout

library(boot)
#SBATCH --time=9:00:00
i <- as.integer(Sys.getenv("SLURM_ARRAY_TASK_ID"))
set.seed(i)
saveRDS(boot(cars, function(d, k) coef(lm(dist ~ speed, d[k, ])), 1000), sprintf("b%d.rds", i))
