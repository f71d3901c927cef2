#!/bin/sh
#
#$ -S /bin/sh
#$ -N blastp.nr
#$ -wd /projects/proteome/blast
#$ -pe threaded 6
#$ -l virtual_free=3.5G,h_vmem=4G
#$ -t 1-200:1
#$ -r y
#$ -m a -M ops@lab.example
part=$(printf 'chunks/part_%04d.faa' "$SGE_TASK_ID")
out=hits/$(basename "$part" .faa).tsv
[ -s "$out.done" ] && exit 0
blastp -query "$part" -db nr -evalue 1e-5 -outfmt 6 \
    -num_threads "$NSLOTS" -out "$out" && touch "$out.done"
