#!/usr/bin/env Rscript
#BSUB -J "boot[1-200]%25"
#BSUB -q short
#BSUB -W 0:20
#BSUB -o boot/%I.log
index <- as.integer(Sys.getenv("LSB_JOBINDEX"))
set.seed(index)
data <- read.csv("data.csv")
take <- sample(nrow(data), replace = TRUE)
fit <- lm(y ~ x, data = data[take, ])
saveRDS(coef(fit), sprintf("boot/%03d.rds", index))
