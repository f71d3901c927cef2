#!/bin/bash
#$	-N	tabbed
#$    -cwd    -j   y   
#$	-l	h_rt=0:10:0,h_vmem=1G	# tabs everywhere
  #$ -N indented
 #$ -V
hostname
