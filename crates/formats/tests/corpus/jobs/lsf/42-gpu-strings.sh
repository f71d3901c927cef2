#!/bin/sh
#BSUB -gpu "num=4:mode=exclusive_process:gmodel=NVIDIAA100_SXM4_40GB:j_exclusive=yes"
#BSUB -n 16
#BSUB -R "span[ptile=8]"
#BSUB -R "rusage[mem=4GB/task]"
#BSUB -R "select[type==X86_64 && ncpus>=16]"
#BSUB -x
python train.py
