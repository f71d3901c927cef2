#!/usr/bin/env bash
#SBATCH --job-name=salmon_quant
#SBATCH --partition=short,medium
#SBATCH --cpus-per-task=12
#SBATCH --mem=36G
#SBATCH --time=06:00:00
#SBATCH --array=1-96%16
#SBATCH --output=logs/%x_%A_%3a.out
#SBATCH --error=logs/%x_%A_%3a.err
#SBATCH --mail-type=ARRAY_TASKS,FAIL
#SBATCH --mail-user=reads@example.org

set -euo pipefail
module load salmon

# column 1: sample, columns 2 and 3: reads
line=$(sed -n "${SLURM_ARRAY_TASK_ID}p" samples.tsv)
read -r sample r1 r2 <<<"$line"

out="quant/$sample"
[ -s "$out/quant.sf" ] && { echo "$sample is there already"; exit 0; }
mkdir -p "$out"
salmon quant -i index/transcripts -l A -1 "$r1" -2 "$r2" \
    --validateMappings --gcBias -p "$SLURM_CPUS_PER_TASK" -o "$out"
