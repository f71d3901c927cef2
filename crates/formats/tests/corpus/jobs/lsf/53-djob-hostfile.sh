#!/bin/bash
#BSUB -J "wave"
#BSUB -n 40 -R "span[ptile=20]" # two nodes
#BSUB -W 0:45
#BSUB -oo wave.out
#BSUB -eo wave.err
echo "hosts: $(sort -u "$LSB_DJOB_HOSTFILE" | tr '\n' ' ')"
awk '{ n[$1]++ } END { for (h in n) print h, "slots=" n[h] }' "$LSB_DJOB_HOSTFILE" > hosts.txt
mpirun --hostfile hosts.txt -np 40 --bind-to core ./wave input.nml
