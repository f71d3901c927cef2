#!/bin/bash
#$ -cwd -V -N plink_chr
#$ -t 1-22
#$ -l mem_free=8G,h_rt=06:00:00 -j yes -o logs/
chr=$SGE_TASK_ID
plink2 --bfile /data/cohort/chr${chr} --maf 0.01 --geno 0.05 \
    --glm hide-covar --covar pheno/covar.txt --pheno pheno/bmi.txt \
    --threads 1 --memory 7500 --out assoc/chr${chr}
