#!/usr/bin/env python3
#BSUB -J sweep[1,3,5-9:2]
#BSUB -oo result.%I
#BSUB -env "all, MODE=fast, LIST=a;b"
#BSUB -cwd /work/%J
#BSUB -N -u ann@lab.example
import os
print(os.environ["LSB_JOBINDEX"])
