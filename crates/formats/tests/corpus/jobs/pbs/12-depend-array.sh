#!/bin/bash
#PBS -W depend=afterokarray:77[].server,block=true
./merge
