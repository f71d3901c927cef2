#!/bin/bash
#SBATCH -J lj-sweep
#SBATCH -N2
#SBATCH -n32
#SBATCH -t90
#SBATCH --mem-per-cpu=1500
#SBATCH -O

for eps in 0.8 0.9 1.0 1.1; do
    for seed in 11 12; do
        srun --exclusive -N1 -n4 lmp -in in.lj -var eps $eps -var seed $seed \
            -log lj.$eps.$seed.log > /dev/null &
    done
done
wait
