#!/bin/bash
#BSUB -J fit
#BSUB -n 8
#BSUB -R "rusage[matlab=1,signal_tb=1:duration=20m,mem=3000] span[hosts=1]"
#BSUB -Lp mathgroup
#BSUB -W 5:00
#BSUB -o fit.%J.log
module load matlab
mkdir -p "$HOME/mdcs/$LSB_JOBID"
matlab -batch "pc = parcluster('local'); \
    pc.JobStorageLocation = '$HOME/mdcs/$LSB_JOBID'; \
    parpool(pc, 8); run_fit"
rm -rf "$HOME/mdcs/$LSB_JOBID"
