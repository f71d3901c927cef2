#PBS -S /bin/csh
#PBS -l nodes=2:ppn=16:ib+1:ppn=4:bigmem
#PBS -l walltime=100:00:00,pmem=3gb,pvmem=4gb
#PBS -m abe -M ann@lab.example,bob@lab.example
#PBS -V
cd $PBS_O_WORKDIR
mpiexec ./namd2 apoa1.namd
