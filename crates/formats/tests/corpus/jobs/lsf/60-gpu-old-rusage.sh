#!/bin/csh
#BSUB -q gpu
#BSUB -n 2
#BSUB -R "rusage[mem=4GB:ngpus_excl_p=1]"
#BSUB -R "select[ngpus>0] order[gpu_maxfactor]"
#BSUB -oo old.out
setenv CUDA_CACHE_PATH /tmp/cuda.$LSB_JOBID
./reduce -n 4096
rm -rf $CUDA_CACHE_PATH
