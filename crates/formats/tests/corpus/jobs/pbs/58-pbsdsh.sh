#!/bin/ksh
#PBS -S /bin/ksh
#PBS -l nodes=4:ppn=2:myri
#PBS -l cput=16:00:00,pcput=2:00:00,walltime=2:30:00
#PBS -N farm
cd $PBS_O_WORKDIR
i=0
for host in $(uniq $PBS_NODEFILE); do
    pbsdsh -h $host mkdir -p /tmp/$PBS_JOBID
    i=$((i + 1))
done
print "$i nodes"
pbsdsh -v $PBS_O_WORKDIR/worker.ksh
pbsdsh -u rm -rf /tmp/$PBS_JOBID
