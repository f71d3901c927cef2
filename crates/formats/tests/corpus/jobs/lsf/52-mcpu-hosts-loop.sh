#!/bin/sh
#BSUB -J lj_fluid
#BSUB -n 32,64
#BSUB -o lj.%J
#BSUB -W 4:00
# Makes a file of machines as older launchers want it.
machines=machines.$LSB_JOBID
: > "$machines"
set -- $LSB_MCPU_HOSTS
total=0
while [ $# -gt 0 ]; do
    echo "$1:$2" >> "$machines"
    total=$((total + $2))
    shift 2
done
mpiexec.hydra -f "$machines" -n "$total" ./lmp -in in.lj
rm -f "$machines"
