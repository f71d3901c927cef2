#!/bin/bash
#PBS -N hybrid
#PBS -q batch
#PBS -l nodes=4:ppn=24
#PBS -l walltime=36:00:00
#PBS -l mem=384gb,vmem=400gb
#PBS -m bea -M one@lab.example,two@lab.example
#PBS -e /dev/null
#PBS -o hybrid.log

cd "${PBS_O_WORKDIR:-.}"
sort -u "$PBS_NODEFILE" > nodes.$$
nodes=$(wc -l < nodes.$$)
per_node=$(( $(wc -l < "$PBS_NODEFILE") / nodes ))
export OMP_NUM_THREADS=$(( per_node / 2 )) OMP_PLACES=cores OMP_PROC_BIND=close
mpiexec.hydra -f nodes.$$ -ppn 2 -n $(( nodes * 2 )) ./fft3d -size 4096
rm -f nodes.$$
