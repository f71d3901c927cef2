#!/usr/bin/env -S julia --project=.
#BSUB -n 20 -R "span[hosts=1]"
#BSUB -J spins
#BSUB -oo spins.log
using Distributed
addprocs(parse(Int, ENV["LSB_DJOB_NUMPROC"]))
@everywhere include("ising.jl")
println(sum(pmap(sweep, 1:200)))
