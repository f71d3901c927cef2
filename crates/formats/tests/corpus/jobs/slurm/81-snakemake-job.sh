#!/bin/sh
# properties = {"type": "single", "rule": "bwa_map", "threads": 8, "resources": {"mem_mb": 16000}}
#SBATCH --job-name=smk.bwa_map.17
#SBATCH --output=logs/slurm/bwa_map/%j.log
#SBATCH --cpus-per-task=8 --mem=16000 --time=240
#SBATCH --parsable
cd /proj/variants &&
python3 -m snakemake --snakefile Snakefile mapped/A.bam --force --cores 8 \
    --allowed-rules bwa_map --notemp --quiet && touch .snakemake/jobs/17.finished
