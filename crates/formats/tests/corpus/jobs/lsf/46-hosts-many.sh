#!/bin/csh -f
#BSUB -m "hostA+2 hostB+1 others"
#BSUB -q "short long"
#BSUB -n 4,16
#BSUB -R "order[ut:-mem] same[model] rusage[lic=1:duration=10,tmp=2000]"
#BSUB -r
setenv OMP_NUM_THREADS 1
mpirun ./a.out
