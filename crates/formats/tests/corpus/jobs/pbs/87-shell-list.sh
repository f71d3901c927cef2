#!/bin/sh
#PBS -S /bin/zsh@head,/usr/local/bin/zsh
#PBS -l ncpus=2
#PBS -N zsh
setopt extendedglob
for f in $PBS_O_WORKDIR/*.(csv|tsv); do print -r -- ${f:t:r}; done
