#!/bin/bash -l
#SBATCH -A genomics
#SBATCH -J STAR
#SBATCH -p bigmem
#SBATCH -N 1 -n 1 -c 16
#SBATCH --mem=120000
#SBATCH --tmp=400G
#SBATCH -t 0-08:00
#SBATCH -o star.%j.log -e star.%j.log
#SBATCH --constraint=nvme

scratch=${TMPDIR:-/tmp}/star.$SLURM_JOB_ID
mkdir -p "$scratch"
trap 'rm -rf "$scratch"' EXIT

cp "$SLURM_SUBMIT_DIR"/reads_{1,2}.fq.gz "$scratch"
cd "$scratch" || exit 1
STAR --runThreadN 16 --genomeDir /db/star/index --readFilesCommand zcat \
     --readFilesIn reads_1.fq.gz reads_2.fq.gz \
     --outSAMtype BAM SortedByCoordinate --outFileNamePrefix out.
samtools index -@ 15 out.Aligned.sortedByCoord.out.bam
rsync -a out.* "$SLURM_SUBMIT_DIR/"
