#!/usr/bin/Rscript
#$ -S /usr/bin/Rscript
#$ -cwd
#$ -N lme
#$ -l h_vmem=12G
#$ -b n
library(lme4)
data <- read.csv("trial.csv")
fit <- lmer(score ~ dose + (1 | subject), data)
saveRDS(fit, "fit.rds")
