#!/bin/tcsh
#PBS -N wrf
#PBS -A weather.01
#PBS -q main
#PBS -l job_priority=economy
#PBS -l select=1:ncpus=128:mpiprocs=4:ompthreads=1+7:ncpus=128:mpiprocs=32:ompthreads=4
#PBS -l walltime=12:00:00
#PBS -k eod
#PBS -j oe

setenv TMPDIR $HOME/tmp
mkdir -p $TMPDIR
#PBS -q late
limit stacksize unlimited
cd run
./real.exe && mpiexec ./wrf.exe
