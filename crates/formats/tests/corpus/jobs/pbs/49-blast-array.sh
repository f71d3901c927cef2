#!/bin/bash
#PBS -N blastp
#PBS -J 0-63
#PBS -l select=1:ncpus=8:mem=24gb
#PBS -l walltime=8:00:00
#PBS -j oe
#PBS -o logs/blast.^array_index^.log

module load blast-plus
cd "$PBS_O_WORKDIR" || exit 1
part=$(printf 'parts/query.%03d.fa' "$PBS_ARRAY_INDEX")
[ -s "$part" ] || { echo "nothing in $part" >&2; exit 3; }
blastp -query "$part" -db "$HOME/db/uniref" -outfmt 6 \
    -num_threads "$NCPUS" -out "hits/${part##*/}.tsv"
