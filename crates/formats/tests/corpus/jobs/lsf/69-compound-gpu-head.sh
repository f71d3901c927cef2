#!/bin/bash
#BSUB -J insitu
#BSUB -R "1*{select[viz] rusage[mem=32G,ngpus_physical=2]} + 24*{rusage[mem=2G/task] span[ptile=12] affinity[core(2)]}"
#BSUB -W 3:00
#BSUB -o insitu.%J
mpirun -np 1 ./viewer : -np 24 ./sim
