#!/bin/bash
#BSUB -R "1*{select[bigmem] rusage[mem=64G]} + 16*{rusage[mem=4G] span[ptile=8]}"
#BSUB -o o
./coupled
