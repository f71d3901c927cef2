#!/bin/csh
#PBS -N b.e21.test
#PBS -l select=1:ncpus=36:mpiprocs=36:mem=45000MB+2:ncpus=36:mpiprocs=18:mem=90GB
#PBS -l walltime=06:00:00
#PBS -l place=scatter:shared
#PBS -m n
#PBS -p -10
#PBS -V
setenv OMP_STACKSIZE 256M
cd $PBS_O_WORKDIR
mpiexec_mpt -p "%g:" ./cesm.exe >& cesm.log.$PBS_JOBID
