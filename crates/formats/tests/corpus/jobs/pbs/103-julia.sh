#!/usr/local/bin/julia --project=@.
#PBS -N julia
#PBS -l select=2:ncpus=24:mpiprocs=24:mem=60gb -l place=scatter -l walltime=4:00:00
#PBS -W umask=022 -m e -M me@math.example
using Distributed
hosts = readlines(ENV["PBS_NODEFILE"])
addprocs([(h, count(==(h), hosts)) for h in unique(hosts)])
@everywhere include("kernel.jl")
println(sum(pmap(kernel, 1:10_000)))
