#!/bin/csh -f
#PBS -N fluent
#PBS -l nodes=2:ppn=8
#PBS -l software=fluent
#PBS -l fluent_par=15
#PBS -l walltime=86400
#PBS -S /bin/csh
#PBS -r n
cd $PBS_O_WORKDIR
set hosts = hosts.$PBS_JOBID
sort -u $PBS_NODEFILE > $hosts
@ n = `cat $PBS_NODEFILE | wc -l`
cat > run.jou << JOU
/file/read-case-data wing.cas
/solve/iterate 500
/file/write-case-data wing-end.cas
/exit yes
JOU
fluent 3ddp -g -t$n -cnf=$hosts -i run.jou
rm -f $hosts
