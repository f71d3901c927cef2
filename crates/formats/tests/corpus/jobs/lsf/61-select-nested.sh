#!/bin/bash
#BSUB -R "select[type==X86_64 && (model==EPYC || (model==XEON && maxmem>64000)) && hname!=slow7]"
#BSUB -R "select[defined(scratch_ssd)]"
#BSUB -o o
./x
