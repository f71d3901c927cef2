#!/bin/bash
#$ -N longrun
#$ -ckpt reloc -c sx
#$ -c 02:00:00
#$ -r yes
#$ -cwd
if [ "$RESTARTED" -gt 0 ] && [ -f state.bin ]; then
    ./longrun --resume state.bin
else
    ./longrun --new
fi
