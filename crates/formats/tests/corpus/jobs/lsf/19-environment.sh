#!/bin/bash
#BSUB -env "none, MODE=fast, HOME"
#BSUB -cwd /work/me
#BSUB -i input.txt
#BSUB -H -r
#BSUB -L /bin/bash
#BSUB -o o
./run
