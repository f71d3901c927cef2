#!/bin/bash
#BSUB -w "done(12) and done(13)"
#BSUB -w "done 12"
#BSUB -w "afterok:12"
#BSUB -w "external(12, \"ready\")"
#BSUB -w "done(1,2,3)"
#BSUB -w "numdone(12)"
#BSUB -w "done(%J)"
#BSUB -o o
./x
